"""What a trained model looks at: attributions of single predictions, and the importance of each input."""
