"""Model classes of the suite, one file a model. `model.catalogue` lists them without importing torch."""
