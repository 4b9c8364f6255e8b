"""What a trained model needs on a small box: bundle, engines, streaming. No torch."""
