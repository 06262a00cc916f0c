"""A graph of one's own: two branches see the input apart, a node joins them. From six rows of a digit, the ink of the next two."""

from sklearn.datasets import load_digits

from nas.search import search_sequences

pixels = load_digits().images  # [sample, row, column]
x = pixels[:, :6].transpose(0, 2, 1)  # [sample, input: column, step: row]
y = pixels[:, 6:].mean(2)  # [sample, horizon: row]
# source 0 is the input, source k + 1 is node k: (2, 2) leads from node 1 to node 2
fork = ((0, 0), (0, 1), (1, 2), (2, 2))
small = {"nodes": 3, "ops": ("zero", "identity", "dense", "conv3"), "channels": 8, "epochs": 6}
found = search_sequences(x[:1500], y[:1500], graph=fork, **small)
error = ((found.predict(x[1500:]) - y[1500:]) ** 2).mean(0) / y[1500:].var(0)
print(found.text)
print("share of the variance that is left, one row ahead and two:", error.round(2).tolist())
