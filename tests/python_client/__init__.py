"""`from plainmq import Client, AsyncClient`: what a program does with them, against real servers."""
