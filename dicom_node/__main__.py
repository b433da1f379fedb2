"""``python -m dicom_node``: the command ``psoas``."""

from dicom_node.cli import main

if __name__ == "__main__":
    main()
