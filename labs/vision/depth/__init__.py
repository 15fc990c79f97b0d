"""The depth study: does more depth help?"""
