"""The starter reader for Japanese: an adapter for Gemma 3 270M, not under Apache-2.0 (LICENCE.txt)."""
