"""Ground floor: errors, names, hashes, progress, yaml. Imports nothing of this package and no torch."""
