"""What is shown: images, and how they are shown; gratings, colors, the built-in photographs."""
