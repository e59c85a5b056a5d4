"""Steps 2 and 4: find what varies, name the run directories, choose the template, freeze every value."""
