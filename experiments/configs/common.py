"""What the configurations have in common: variants in words, and the keys of training."""

from collections.abc import Sequence

from ml_collections import ConfigDict, config_dict


def parse_variant(
    variant: str, names: Sequence[str], default: str, sizes: dict[str, int]
) -> tuple[str, bool, dict[str, int]]:
    """`"jmvae_zero,smoke,latent_dim=2"` -> name, whether it is shrunk, and sizes.

    Args:
      variant: words with commas between them.
      names: of the variants.
      default: the one that is meant where none is named.
      sizes: name -> default of the values from which others are computed.

    Raises:
      ValueError: a word or a size that is not known, with those that are, or two variants.
    """
    sizes = dict(sizes)
    named, smoke = [], False
    for word in filter(None, variant.split(",")):
        size, _, value = word.partition("=")
        if word in names:
            named.append(word)
        elif word == "smoke":
            smoke = True
        elif size in sizes and value.isdecimal() and int(value) > 0:
            sizes[size] = int(value)
        else:
            raise ValueError(
                f"variant {word!r} is not known: expected one of {list(names)}, 'smoke', or "
                f"SIZE=NUMBER with SIZE one of {list(sizes)}, separated by commas"
            )
    if len(named) > 1:
        raise ValueError(f"variant {variant!r} names {named}: expected one of {list(names)}")
    return named[0] if named else default, smoke, sizes


def objective_config(inference: str | None) -> ConfigDict:
    """What is trained, for a model of that `inference`."""
    objective = ConfigDict()
    objective.name = "elbo"
    objective.num_samples = 1  # of z for each example; above 1: the importance-weighted bound
    if inference in ("kl", "masked"):
        objective.name = "jmvae_kl"
        objective.alpha = 0.1
        objective.alignment = "joint"  # or detached
        objective.divergence = "forward"  # or reverse, jeffreys
    return objective


def data_config(dataset: str, train_split: str, validation_split: str) -> ConfigDict:
    """Where the data come from."""
    data = ConfigDict()
    data.dataset = dataset
    data.train_split = train_split
    data.validation_split = validation_split
    data.data_dir = config_dict.placeholder(str)
    data.manual_dir = config_dict.placeholder(str)
    data.download = False
    data.streamed = config_dict.placeholder(bool)  # where a device had better not hold them all
    data.workers = 2  # threads that read a stream
    data.blocks_ahead = 2  # dispatches whose rows are made ready before their time
    data.missing_rates = ConfigDict()  # modality -> probability that a training row loses it
    data.missing_seed = 0  # of what is removed
    data.missing_rows = "keep"  # or drop: train on the rows that lose nothing
    return data


def train_config() -> ConfigDict:
    """How a model is trained: JMVAE's recipe on MNIST, which other configurations change."""
    train = ConfigDict()
    train.epochs = 500
    train.batch_size = 100
    train.learning_rate = 1e-3
    train.schedule = "constant"  # or cosine, warmup_cosine
    train.schedule_warmup_fraction = 0.05  # of the steps, for warmup_cosine
    train.adam_b1 = 0.9
    train.adam_b2 = 0.999
    train.adam_eps = 1e-4
    train.clip_norm = 5.0  # of the whole gradient; 0: not limited
    train.clip_value = 1.0  # of each element, after the norm; 0: not limited
    train.warmup_fraction = 0.4  # share of the epochs in which beta rises from 0 to 1
    train.average_decay = 0.0  # of the weights' exponential average; 0: none
    train.precision = "float32"  # or bfloat16: of the networks' arithmetic
    train.accumulate = 1  # parts of a device's rows, one after the other
    train.remat = False  # convolutional stages are computed again for their gradient
    train.strategy = "jit"  # or pmap
    train.num_devices = config_dict.placeholder(int)  # all that share the batch evenly
    train.steps_per_dispatch = 20  # that the device runs without a word from the host
    train.log_every = 100  # steps
    train.validate_every = 1  # epochs
    train.checkpoint_every = 1  # epochs
    train.keep_checkpoints = 3
    return train
