"""The exact exchange of gradients, its plans and transport; and the inexact ones that it is measured against."""
