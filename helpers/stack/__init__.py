"""One module a layer of the stack: gpu, quota, inference, memory, network; what labs and checks reason with."""
