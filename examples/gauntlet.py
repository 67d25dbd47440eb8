"""A decoder of spikes, blocking: attaches to a session and answers each packet.

    python examples/gauntlet.py SESSION [PORT] [PACKETS]

The model is a stand-in for yours: the population vector of units whose preferred directions it
learns from the kinematics of the packets it has seen (a least squares fit, unit by unit).
"""

import sys

import numpy as np

from phantomd.client import connect


class Population:
    def __init__(self, n_units: int) -> None:
        self.sums = np.zeros((n_units, 2))
        self.mean = np.zeros(n_units)
        self.power = 1e-9
        self.n = 0

    def velocity(self, counts: np.ndarray) -> tuple[float, float]:
        tuning = self.sums / self.power  # spikes a bin for a unit of velocity
        size = float((tuning**2).sum())
        if size == 0.0:
            return 0.0, 0.0
        vx, vy = (counts - self.mean) @ tuning / size
        return float(vx), float(vy)

    def learn(self, counts: np.ndarray, v: np.ndarray) -> None:
        self.n += 1
        self.mean += (counts - self.mean) / self.n
        self.sums += np.outer(counts - self.mean, v)
        self.power += float(v @ v) / 2


def main(session: str, port: int = 7072, packets: int = 0) -> None:
    with connect("spikes", port=port, everything=True) as spikes:
        spikes.send({"attach": session})
        model, answered = None, 0
        for message in spikes:
            if message["type"] == "metadata":  # of `default` first, then of our session
                is_ours = message["data"]["session"] == session
                model = Population(message["data"]["num_channels"]) if is_ours else None
            elif message["type"] == "error":
                sys.exit(f"{message['message']} ({message['hint']})")
            elif message["type"] == "data" and model is not None:
                counts = np.array(message["data"]["spikes"]["spike_counts"], float)
                vx, vy = model.velocity(counts)
                spikes.send({"vx": vx, "vy": vy, "seq": message["seq"]})
                k = message["data"]["kinematics"]
                if k["vx"] is not None:
                    model.learn(counts, np.array([k["vx"], k["vy"]]))
                answered += 1
                if answered == packets:
                    break
    print(answered, "packets answered")


if __name__ == "__main__":
    main(sys.argv[1], *(int(argument) for argument in sys.argv[2:4]))
