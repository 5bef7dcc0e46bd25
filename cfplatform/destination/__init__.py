"""Where files go: a folder of this machine or a store, complete files only, and the state of what is finished."""
