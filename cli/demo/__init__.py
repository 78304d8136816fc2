"""`tailpipe-exports demo`: a scenario for each cloud, played against its local cloud with every expectation checked."""
