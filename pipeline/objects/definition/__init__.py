"""What objects are: the request, the scores of a class, and the parameters of the method."""
