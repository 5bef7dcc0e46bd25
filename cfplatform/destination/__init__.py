"""Where files go: a folder of this machine or a store, files that appear whole, and the state of what is finished."""
