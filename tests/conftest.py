from hypothesis import settings

settings.register_profile("modelserve", deadline=None)  # a busy machine is not a failure
settings.load_profile("modelserve")
