"""Settings of the data."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from gannet.node.settings import Settings


class DataConfig(Settings):
    """A data set and how it is distributed over the nodes."""

    name: Literal["fashion-mnist-mini", "fashion-mnist", "mnist", "cifar10", "image-folder"] = Field(
        default="fashion-mnist-mini",
        description="fashion-mnist-mini is part of the package (5,000 images); the others are read from root",
    )
    root: str | None = Field(
        default=None,
        description="folder with the data set in torchvision's layout, or an .npz file with train_images, "
        "train_labels, test_images and test_labels (uint8; images 28 x 28, or 32 x 32 x 3 for cifar10)",
    )
    download: bool = Field(default=False, description="let torchvision fetch a missing data set into root")
    image_size: int | None = Field(
        default=None,
        ge=8,
        le=256,
        multiple_of=4,
        description="side length in pixels; unset: 28 for grey, 32 for colour",
    )
    value_range: tuple[float, float] | Literal["file"] | None = Field(
        default=None,
        description="image-folder: the pixel values that become black and white in grey images of more than 8 bits, "
        "[low, high] for all files or file for each file's own; unset: the range of the files' format, which 16-bit "
        "files have and 32-bit and floating-point files have not",
    )
    unreadable: Literal["error", "skip"] = Field(
        default="error",
        description="image-folder: whether a file that cannot be read ends the run before it begins, or is left out",
    )
    compose: int | None = Field(
        default=None,
        ge=1,
        le=4,
        description="images with several tags: canvases that show up to this many of the set's items, their label "
        "the set of the items' labels; for task kdgan with kind: tagging",
    )
    sharding: Literal["iid", "dirichlet", "class"] = "iid"
    alpha: float | None = Field(
        default=None, gt=0, description="Dirichlet concentration; with a smaller one each node has fewer labels"
    )
    min_per_node: int | None = Field(
        default=None,
        ge=1,
        description="draw the shares of sharding: dirichlet again until every node has this many images; unset: they "
        "are drawn once, and it is an error if a node has none",
    )
    classes_per_node: int | None = Field(
        default=None, ge=1, description="number of labels per node, with sharding: class"
    )

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        if self.name == "fashion-mnist-mini":
            if self.root is not None:
                raise ValueError("fashion-mnist-mini is part of the package: leave out root")
        elif self.root is None:
            raise ValueError(f"{self.name} needs root: the folder with the data set")
        elif self.from_npz and (self.name == "image-folder" or self.download):
            why = "a folder, not an .npz file" if self.name == "image-folder" else "a folder if it is to download"
            raise ValueError(f"{self.name} needs root to be {why} (got {self.root!r})")
        if self.name != "image-folder" and (self.value_range is not None or self.unreadable != "error"):
            field = "value_range" if self.value_range is not None else "unreadable"
            raise ValueError(f"{field} belongs to name: image-folder; leave it out for {self.name}")
        if isinstance(self.value_range, tuple) and self.value_range[0] >= self.value_range[1]:
            raise ValueError(f"value_range: two numbers, the lower first (got {list(self.value_range)})")
        if self.sharding == "dirichlet" and self.alpha is None:
            raise ValueError("sharding: dirichlet needs alpha, for example alpha: 0.5")
        if self.sharding != "dirichlet" and self.alpha is not None:
            raise ValueError(f"alpha belongs to sharding: dirichlet; leave it out for {self.sharding}")
        if self.sharding != "dirichlet" and self.min_per_node is not None:
            raise ValueError(f"min_per_node belongs to sharding: dirichlet; leave it out for {self.sharding}")
        if self.sharding == "class" and self.classes_per_node is None:
            raise ValueError("sharding: class needs classes_per_node, for example classes_per_node: 2")
        if self.sharding != "class" and self.classes_per_node is not None:
            raise ValueError(f"classes_per_node belongs to sharding: class; leave it out for {self.sharding}")
        return self

    @property
    def from_npz(self) -> bool:
        """Whether root is an .npz file and not a folder."""
        return self.root is not None and self.root.endswith(".npz")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the networks' images."""
        colour = self.name in ("cifar10", "image-folder")
        size = self.image_size or (32 if colour else 28)
        return (3 if colour else 1, size, size)
