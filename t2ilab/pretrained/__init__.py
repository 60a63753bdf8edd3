"""Published weights in our networks: one adapter a file, official checkpoint layout -> our state dict."""
