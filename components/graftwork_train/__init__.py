"""graftwork_train: what runs in the containers. It imports torch and Ray, never kfp."""
