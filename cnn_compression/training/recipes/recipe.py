"""What the `Trainer` asks of whatever it trains."""


class Recipe:
    """A kind of model and how it is trained; a subclass is one file in this folder.

    Args:
        config: `TrainConfig`.
    """

    def __init__(self, config):
        self.config = config

    @property
    def precision(self):
        """The config's, as Keras calls it."""
        narrow = self.config.precision == "bfloat16"
        return "mixed_bfloat16" if narrow else self.config.precision

    @property
    def steps(self):
        """How many steps there are, int."""
        return self.config.steps

    def model(self):
        """The model to begin with: new, or what `init` names; in the config's precision."""
        raise NotImplementedError

    def objectives(self, model, draws):
        """What each phase of `TrainConfig.phase` trains for.

        Args:
            model: what `model` gave.
            draws: function of a shape, a tuple of int, to float32 uniform in [0, 1), others in each
                step and on each replica. To be called once a step.

        Returns:
            dict of phase to objective; see `objectives`.
        """
        raise NotImplementedError

    def companions(self):
        """Networks that are needed to go on training and are no part of the model: dict."""
        return {}

    def peak_rate(self, phase):
        """The highest learning rate of a phase, float."""
        return self.config.learning_rate

    def chapter(self, step):
        """What a step belongs to: where it changes the log says how far the run is."""
        return ""

    # Whether a new chapter starts from the averaged weights.
    adopts_average = False

    def widened(self, model):
        """A copy of a model that computes in float32."""
        raise NotImplementedError

    def complete(self, model, crops):
        """Gives a copy with averaged weights what is not trained by steps.

        Args:
            model: what `widened` gave.
            crops: function that gives an iterator of uint8 `[B, S, S, C]`, training crops, the same
                in each call.
        """

    def evaluation(self, reader):
        """Function of a model to its scores on held-out images, as of `HeldOutEvaluation`.

        Args:
            reader: `ImageReader` of the images.
        """
        raise NotImplementedError
