"""Fine-tuning: encoders that are trained on pixels, with the loop, the losses and the run folders of `abaw.train`."""
