"""The bus on a broker."""
