"""From configuration to the tick: the plan, the engine on its two clocks, the ledger."""
