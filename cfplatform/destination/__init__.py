"""Where files go: a folder of this machine or a store, files that appear only when complete, and the state of what is finished."""
