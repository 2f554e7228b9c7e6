"""How the demo model decides: plain rules over the offered tools and the conversation; same input, same answer."""
