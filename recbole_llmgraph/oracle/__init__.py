"""Questions to a language model and checked answers: templates, back-ends, cache, cost. No RecBole."""
