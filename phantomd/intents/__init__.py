"""From decoded intents to actions, and what may stop them."""
