"""The catalogue as tests, for any project: pytest --pyargs parity.conformance --parity-engine module:Class."""
