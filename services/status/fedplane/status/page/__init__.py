"""The page on which people watch runs in a browser: what it says (`pictures`, `onlooking`), how it gets there, and its files."""
