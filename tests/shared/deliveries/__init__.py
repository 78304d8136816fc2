"""Tests of shared/deliveries/."""
