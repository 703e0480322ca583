"""Speed, memory and exactness of the graph room."""
