"""Making and rewriting training text: the verb `synthesize`, its methods and its writers."""
