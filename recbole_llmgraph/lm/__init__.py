"""Language models: backbones, slot prompts, key/value prefixes, adapters, text encoders. Knows no RecBole."""
