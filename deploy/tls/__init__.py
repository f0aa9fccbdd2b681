"""TLS between the processes of a cluster: keys made for one cluster, or given certificates."""
