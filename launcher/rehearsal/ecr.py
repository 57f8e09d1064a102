"""What moto's ECR lacks: archived images, which DescribeImages hides."""

from __future__ import annotations

from launcher.rehearsal.api import Call, Refusal
from launcher.rehearsal.server import LocalServer
from launcher.rehearsal.stack import LocalStack


class LocalEcr:
    """Archived images of one account.

    Attributes:
        archived: their digests. A push of the same image restores it.
    """

    def __init__(self, server: LocalServer, stack: LocalStack) -> None:
        self.archived = stack.archived
        self._stack = stack
        server.handlers["ecr:DescribeImages"] = self.describe_images

    def describe_images(self, call: Call) -> None:
        """Refuse archived images unless the filter asks for them; moto answers for the others.

        Raises:
            Refusal: an image of the call is archived.
        """
        if call.parameters.get("filter", {}).get("imageStatus", "ACTIVE") in ("ARCHIVED", "ANY"):
            return
        name = call.parameters["repositoryName"]
        repository = self._stack.ecr.repositories.get(name)
        for image in repository.images if repository else ():
            for wanted in call.parameters.get("imageIds", []):
                asked = wanted.get("imageDigest") == image.image_digest or wanted.get("imageTag") in image.image_tags
                if asked and image.image_digest in self.archived:
                    raise Refusal(
                        "ImageNotFoundException",
                        f"The image with imageId {wanted} does not exist within the repository with name '{name}'",
                    )
