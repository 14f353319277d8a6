"""Sets that come as shards: tars of some hundred images each, here or on a server, in the WebDataset layout.

A shard is fetched, checked, decoded and kept as a cache entry of its own, so that a set of any size passes through
bounded memory, a killed build goes on with the shards not yet done, and a set larger than the disk is the same thing
with the oldest entries dropped.

    <cache>/shards/<key>/          pixels.npy and meta.json of one shard, as in `frugan.data.cache`
                   <key>.json      what is known of it: names, labels, kinds of images; stays when the pixels go
    <cache>/streams/…              the same for sets that are kept within a limit

`index.json` beside the shards, which `frugan data shard` writes, spares the first pass over all of them.
"""
