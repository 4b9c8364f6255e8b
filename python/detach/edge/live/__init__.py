"""At home, live: sensors and perhaps a camera in, events out. No torch, no scikit-learn."""
