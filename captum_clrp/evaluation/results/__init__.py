"""What comes out: records image by image, their summary, figures."""
