// clipspace
