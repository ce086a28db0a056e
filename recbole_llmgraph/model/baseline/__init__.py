"""RecBole's own models, with typed settings and exact accelerations that can be switched off."""
