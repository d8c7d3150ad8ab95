"""The Observer in other people's trainers and trackers, one file each, imported only where it is used.

    from landscape.integrations.lightning import LandscapeCallback       # Lightning's Trainer
    from landscape.integrations.transformers import LandscapeCallback    # Hugging Face's Trainer
    from landscape.integrations.tensorboard import TensorBoard           # Observer(..., to=TensorBoard("logs"))

``pip install 'landscape-smoothness[integrations]'`` installs what they need. Another tracker is any object with
``append(step, learning_rate, measurements)``: see ``landscape.Sink``.
"""
