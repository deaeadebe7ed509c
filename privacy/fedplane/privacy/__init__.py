"""The mathematics of privacy: masks that cancel, noise that is accounted for. Pure; who sends what to whom is the roles' business."""
