"""The bucket. The only layer that imports boto3 and botocore.

``base`` is the contract that the rest of the program sees; ``s3`` carries it out with boto3;
``checked`` wraps any store and believes no answer that cannot be true. May import: ``s3mount.errors``,
``s3mount.core``, boto3, botocore, trio. Only ``s3mount.mount`` may import anything but ``base``.
"""
