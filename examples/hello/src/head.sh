#!/bin/sh
# Greets each of its arguments.
