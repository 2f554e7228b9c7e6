from shared.packages import PackageStore
from shared.packages.directory import DirectoryStore
from shared.packages.s3 import S3Store
from shared.settings import PackageStoreSettings


def open_store(settings: PackageStoreSettings) -> PackageStore:
    """The store that the settings name. Nothing is connected before its first use."""
    if settings.s3_bucket_name is not None:
        return S3Store(settings)
    if settings.storage_root is None:
        raise ValueError("the settings name neither a bucket nor a directory for packages")
    return DirectoryStore(settings.storage_root)
