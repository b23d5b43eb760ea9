"""How ranks talk: one protocol, serial, thread and MPI communicators, and the exact exchange of gradients."""
