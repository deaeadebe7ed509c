"""What is said on the bus and how: names, facts, envelope, resources, layouts. Pure; imports nothing of fedplane above it."""
