"""An app for the comparison of federations: it costs next to nothing itself."""
