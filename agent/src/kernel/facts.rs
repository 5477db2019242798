//! What this host allows: the facts that decide whether the probes can work. Reads files, changes nothing.

