"""The machine and its Ray: what there is, what a trial may use, and how Ray is started."""
