"""What people see: image pools, activations, natural exemplars, feature visualisations and the gallery."""
